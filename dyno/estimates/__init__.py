"""How long each stage will take, from what this machine did before."""
