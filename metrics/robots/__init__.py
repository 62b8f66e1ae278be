"""The robots of assets/: what their captions say. The data source draws from it, and metrics read it; without torch."""
