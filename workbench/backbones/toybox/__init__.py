"""Our own small pretrained towers of the toybox world: architecture, weights, and the script that makes them again."""
