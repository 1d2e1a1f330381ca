"""From a standard's rows of data to the arrays that command engines read."""
