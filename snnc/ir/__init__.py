"""The two dialects of the intermediate representation and the graph that holds them."""
