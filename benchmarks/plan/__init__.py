"""How right the capacity model is: closed forms, plants of known truth, loads held out."""
