"""The flag ``--variant`` of the commands that decide about registered priors."""

from __future__ import annotations

from eclipse.errors import ConfigError

VARIANTS = ("eclipse", "lambda-eclipse")


def check_variant(variant: str) -> None:
    """Raise :class:`ConfigError` for a variant that there is not."""
    if variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: choose {' or '.join(VARIANTS)}")


def name_of(variant: str, decoder: str) -> str:
    """The registered model's name; :class:`ConfigError` for a variant that there is not."""
    check_variant(variant)
    from eclipse.tracking.registry import model_name

    return model_name(variant, decoder)
