"""Frozen diffusion decoders behind one interface: Kandinsky 2.2 (mini's, too), Kandinsky 2.1 and Karlo."""

from eclipse.models.decoder.base import Call, Decoder, Drawing, Sketch
from eclipse.models.decoder.kandinsky import Kandinsky21Decoder, KandinskyV22Decoder
from eclipse.models.decoder.karlo import KarloDecoder
from eclipse.models.decoder.load import ADAPTERS, load_decoder
from eclipse.models.decoder.reference import decoder_digest, decoder_folder, open_decoder

__all__ = [
    "ADAPTERS",
    "Call",
    "Decoder",
    "Drawing",
    "Kandinsky21Decoder",
    "KandinskyV22Decoder",
    "KarloDecoder",
    "Sketch",
    "decoder_digest",
    "decoder_folder",
    "load_decoder",
    "open_decoder",
]
