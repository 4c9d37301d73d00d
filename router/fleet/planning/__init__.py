"""From what is wanted and what there is to the next steps. Pure: the controller and the tests run the same code."""
