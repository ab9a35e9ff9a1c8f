// Package healthport answers on the health check node ports of a node.
//
// A Service with externalTrafficPolicy Local has a spec.healthCheckNodePort: a
// load balancer outside the cluster asks http://NODE:PORT/ which nodes have
// endpoints. kube-proxy answers, so that Herald has to where it is not there.
//
// Which ports those are, and what they say, is decided by Plan, which is pure.
// The Server owns their sockets. It does not tell whether Herald itself serves
// a Service, nor does it touch the ports of kube-proxy's that it finds taken.
package healthport
