"""What the engines and the machine did during a run. A process of its own looks, never LoadGen's."""
