"""Where jobs run: this machine, a Kubernetes cluster, Cloud TPU VMs; a folder for each, a row for each in names.py."""
