"""From a trained model to a package: scaffolding, importing and checking on the author's machine."""
