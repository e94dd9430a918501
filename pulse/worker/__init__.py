"""The process of a worker, which takes posted runs from the store and executes them."""
