"""The catalogue: what each model is, which sizes it takes, and the shapes of its components."""

from webui.catalogue.loader import find_model, load_cards, load_models, models_of, use_models

__all__ = ["find_model", "load_cards", "load_models", "models_of", "use_models"]
