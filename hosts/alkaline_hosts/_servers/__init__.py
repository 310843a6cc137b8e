"""What the hosts on database servers share: how a process listens to what others commit."""
