"""The parts that all Python tests share: one way to start the server (`server`), and clients good and bad (`peers`)."""
