"""Networks of keras.applications and of KerasHub by name: names.py has the rows, the other files build them without weights."""
