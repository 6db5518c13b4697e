"""The figures of the page: counted in the store, put together, and what each field means."""
