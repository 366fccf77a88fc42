"""The top floor: submits runs. Starts them as processes; imports no TensorFlow, Keras or JAX."""
