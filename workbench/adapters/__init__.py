"""Small trainable parts for a frozen tower, and the choice of the tower's own parameters that train."""
