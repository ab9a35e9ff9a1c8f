package nft

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
)

// serverComment says what is set on a server, as in
// "mh,mh-fallback,mh-port affinity 600 s snat": the words of steer.Server, but
// for the sources, for which there is no room.
func serverComment(s steer.Server) string {
	s.Sources = ""
	return s.String()
}

// parseServerComment reads what serverComment has written. What it has not
// written is a server without a scheduler, which a Table never wants.
func parseServerComment(comment string) steer.Server {
	words := strings.Split(comment, " ")
	s := steer.Server{}
	s.Scheduler, s.Flags = parseScheduler(words[0])
	words = words[1:]
	if len(words) >= 3 && words[0] == "affinity" {
		seconds, _ := strconv.ParseUint(words[1], 10, 32)
		s.Affinity, words = uint32(seconds), words[3:]
	}
	s.SNAT = len(words) > 0
	if serverComment(s) != comment || !nameable(s.Scheduler) {
		return steer.Server{}
	}
	return s
}

// parseScheduler reads "mh,mh-fallback,mh-port".
func parseScheduler(word string) (name string, flags config.SchedulerFlags) {
	name, rest, _ := strings.Cut(word, ",")
	for flag := range strings.SplitSeq(rest, ",") {
		switch flag {
		case name + "-fallback":
			flags |= config.SchedulerFallback
		case name + "-port":
			flags |= config.SchedulerPort
		}
	}
	return name, flags
}

// nameable is whether the kernel could have a scheduler of that name
// (IP_VS_SCHEDNAME_MAXLEN is 16).
func nameable(scheduler string) bool {
	for _, c := range scheduler {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return scheduler != "" && len(scheduler) < 16
}

// weightComment is "" for weight 1, which nearly all have, else "weight 3".
func weightComment(weight int) string {
	if weight == 1 {
		return ""
	}
	return fmt.Sprintf("weight %d", weight)
}

// parseWeightComment returns 0, which no slot has, for what is not a weight.
func parseWeightComment(comment string) int {
	if comment == "" {
		return 1
	}
	digits, ok := strings.CutPrefix(comment, "weight ")
	weight, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil {
		return 0
	}
	return int(weight)
}
