"""The Keras shell around `core`: state and hooks, no arithmetic of its own."""
