"""Text to vectors: encoders, and a store that never encodes a text twice."""

from tacit.features.encoders import Encoder, Text, encoder_from_config, load_encoder
from tacit.features.store import FeatureStore, text_keys

__all__ = ["Encoder", "FeatureStore", "Text", "encoder_from_config", "load_encoder", "text_keys"]
