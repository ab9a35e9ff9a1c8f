// Package steer steers traffic for load-balanced addresses on one node.
//
// It decides which virtual servers the node needs (Plan) and what has to
// change in the kernel to get there (Diff); both are pure. A Kernel, one of
// the packages below this one, holds the rows: ipvs in network namespaces of
// Herald's own, one for each Tier, nft in an nftables table of Herald's own.
// The mark that a row is ours is that it stands there, so it outlives both a
// deleted pool and a crash, and nothing that stands elsewhere is ever touched.
//
// Each pass is one straight line:
//
//	snapshot --Plan--> want --Diff(have)--> join, leave --Apply--> kernel
//
// A Planner plans again only for what has changed, and Diff then looks at no
// other rows. Have is what the kernel last listed plus what it has acknowledged
// since, so a restart, a crash or a colleague with ipvsadm all heal at the next
// audit.
package steer
