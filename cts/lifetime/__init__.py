"""What is left behind, what closing does, and handles that go at odd moments."""
