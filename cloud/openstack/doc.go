// Package openstack makes load balancers of OpenStack serve Services: Octavia's,
// which send to the nodes' ports, with floating IPs of Neutron's before them.
//
// It owns what bears its mark, and touches nothing else. A load balancer has it
// as tags, from the call on that makes it; a floating IP as its description, for
// its tags take a second call. A floating IP is found by its own mark: Neutron
// keeps it, and the bill, when the port that it leads to is gone. Within a load
// balancer the listeners and pools that were made here are told by their names.
//
// Octavia refuses each change while it works on another one: an error of class
// Locked. Names are not unique there, and two calls make two load balancers:
// whoever creates looks first, and so does a step that is repeated.
package openstack
