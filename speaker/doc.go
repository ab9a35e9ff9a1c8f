// Package speaker makes load-balanced addresses known on the network, and
// steers what arrives for them, on one node.
//
// It decides which addresses this node announces (Plan, Elect; both pure) and
// runs the pass on a node (Node): rows join, read back, announce, rows leave.
// It talks to no kernel, no wire and no API itself: steer.Kernel and Announcer
// do, and the packages below this one implement them.
package speaker
