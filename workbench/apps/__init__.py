"""Apps for notebooks: one file, one function that returns a widget. They compute nothing; lower rooms do."""
