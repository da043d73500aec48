"""Results that outlive a run: one DuckDB file beside a folder of content-addressed pictures."""

from diffex_dagster.store.database import Store
from diffex_dagster.store.files import StoredPicture, StoredPictures
from diffex_dagster.store.keys import edit_key, image_key

__all__ = ["Store", "StoredPicture", "StoredPictures", "edit_key", "image_key"]
