// Package cloud makes a cloud's load balancer or address serve a Service of
// type LoadBalancer.
//
// It owns what bears its mark in a cloud, the cluster's ID and the UID of a
// Service, and touches nothing else: neither what people made by hand, nor what
// belongs to another cluster, nor listeners that it did not make.
//
// Each pass for a Service is one straight line, and may be cut anywhere:
//
//	Service, Nodes ──BuildSpec──▶ LBSpec ┐
//	                                     ├──Plan──▶ steps ──Apply──▶ cloud ──Observe──▶ status
//	cloud ──────────Observe─────▶ Found ─┘
//
// BuildSpec, Plan and BuildStatus are pure. What is to be remembered stands in
// the cloud, at the resources, from the call on that makes them: who is killed
// between two calls finds them again.
//
// An Engine does this for one cloud. It has two hosts, and a Service only ever
// one of them: the service controller of k8s.io/cloud-provider serves Services
// without a class, and Herald's own loop those of a class of Herald's. The
// packages below this one are drivers, one for each cloud.
package cloud
