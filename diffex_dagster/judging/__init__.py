"""Does a picture show a concept? What the report needs to tell "no effect" from "no edit"."""
