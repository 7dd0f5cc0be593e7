"""Apps in a real browser. A package, so that the browser and the servers end with this folder's tests, not later."""
