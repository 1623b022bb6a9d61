"""What the screens show, made of what the gateway tells: pure functions, data in, frame or markup out."""
