"""Errors that a person can act on: one line naming the file, the field and the remedy; the CLI prints no trace."""


class EclipseError(Exception):
    """Base of every error that is the input's fault and not the program's."""


class ConfigError(EclipseError):
    """A parameter is unknown, misspelt, of a wrong type or out of range."""


class DataError(EclipseError):
    """A record, caption, image, shard or manifest is missing, damaged or inconsistent."""


class StoreError(EclipseError):
    """An embedding store is damaged, belongs to another encoder, or has other dimensions than asked for."""


class CheckpointError(EclipseError):
    """Weights do not fit the model, or a training state belongs to another configuration."""


class TrainingError(EclipseError):
    """Training cannot go on: a value is not finite, or the data cannot fill one batch."""
