"""What the blog of January 2021 asked DALL-E to draw: its captions with their slots, as data, and the page of them."""
