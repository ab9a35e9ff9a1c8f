// Package look collects the facts that package doctor judges.
//
// It changes nothing on the host. What can be found out only by doing it is done
// in a network namespace that is thrown away, for which the kernel may load
// modules. It asks the node only: what the API says is added by others.
package look
