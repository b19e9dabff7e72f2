"""What a network costs and how well it answers: operations, accuracy, certificates, speed."""
