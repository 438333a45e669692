"""The node itself: its object and conditions (`controller`), and who may act for it (`lease`)."""
