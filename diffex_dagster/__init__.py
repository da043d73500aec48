"""DiffEx as Dagster assets: which visual attributes does an image classifier rely on, how much, and how sure are we?"""

__version__ = "0.1.0"
