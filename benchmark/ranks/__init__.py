"""The processes of one run, as a launcher (torchrun, accelerate launch) starts them: who they are, what they share."""
