"""Makes small frozen models from nothing: CLIP, MoVQ and decoder UNet, of the real library classes."""
