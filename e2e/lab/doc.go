// Package lab is a small network with a real Kubernetes cluster on it, for
// stories.
//
// Hosts are network namespaces, the control plane is kube-apiserver, etcd and
// kube-controller-manager themselves, Herald is the binary that users run.
// Only kubelets and container images are missing: a node is a namespace and a
// Node object, a pod is a namespace, a Pod object and a server that answers
// "pod-name client-address".
//
//	far 198.51.100.7 --- router .1 ---+
//	                                  |   192.168.50.0/24, fd50::/64
//	             client .100 ---------+--- n1 .11 --- pods 10.244.1.0/24, fd10:244:1::/64
//	                                  +--- n2 .12 --- pods 10.244.2.0/24, fd10:244:2::/64
//	                                  +--- n3 .13 --- pods 10.244.3.0/24, fd10:244:3::/64
//
// The nodes have a second interface, eth1 in 10.78.0.0/24, where the API
// server is 10.78.0.1. The pods are not reachable from outside: neither router
// nor client has a route to them.
//
// A story is a test:
//
//	l := lab.Start(t, lab.Options{})
//	l.Pod(1, "web-1", lab.PodSpec{Labels: lab.App("web")})
//	l.Apply(service)
//	addr := l.WaitAddress("web")
//	body, err := l.Client.Get("http://" + addr.String())
//
// What must work stops the story when it does not (Apply, Start, Kill); what
// is observed returns an error (Get, UDP, Find). Everything a Lab makes, its
// Close takes away again, and reports what stayed.
//
// The same code runs on the machine's kernel and inside User-Mode Linux, where
// the control plane is outside and the files in $HERALD_LAB_DIR say how to
// reach it. There every system call is slow and starting a process is slower:
// hence netlink instead of ip, and goroutines instead of server processes.
package lab
