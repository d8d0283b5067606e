"""The harness at full size: a real engine on a real GPU, its own tools beside ours."""
