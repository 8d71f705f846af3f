"""What training or drawing would need of a pod, before there is one."""
