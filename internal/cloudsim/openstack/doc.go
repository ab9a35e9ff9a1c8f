// Package openstack runs OpenStack's own servers for tests: Octavia's API and
// Neutron, of Debian 12, as processes of this machine, without root, Keystone or
// machines. They validate, lock and refuse as they do in a cloud.
//
// e2e/setup.sh unpacks the packages. Each test gets a project of its own, with
// networks, behind a proxy that notes its calls and, if it is told to, has them go
// wrong.
package openstack
