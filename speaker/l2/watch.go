package l2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/loop"
)

// resubscribe is how long to wait before a lost subscription is tried again.
const resubscribe = time.Second

// Watch calls ring after any change of a link or an address of this network
// namespace, until ctx ends. It rings too whenever it may have missed one. It
// returns an error only if it cannot begin.
func Watch(ctx context.Context, ring func()) error {
	return watch(ctx, netns.None(), ring)
}

func watch(ctx context.Context, ns netns.NsHandle, ring func()) error {
	s, err := subscribe(ns)
	if err != nil {
		return err
	}
	for {
		if err == nil {
			ring()
			listen(ctx, s, ring)
		}
		if !loop.Pause(ctx, resubscribe) {
			return nil
		}
		s, err = subscribe(ns)
	}
}

func subscribe(ns netns.NsHandle) (*nl.NetlinkSocket, error) {
	s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("subscribing to changes of links: %w", err)
	}
	return s, nil
}

// listen rings for every message until the socket fails or ctx ends, and
// closes it. What a message says does not matter: whoever is rung for looks
// for himself. Nor does it if some are lost (ENOBUFS).
func listen(ctx context.Context, s *nl.NetlinkSocket, ring func()) {
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		_, _, err := s.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		ring()
	}
}
