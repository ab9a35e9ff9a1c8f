package lab

import (
	"testing"
	"time"
)

// recorded reads who answered the questions, one every 10 ms: a letter for each
// host, a capital for both a and b, a dot for nobody.
func recorded(questions string) Record {
	r := Record{Began: time.Unix(1000, 0), Every: 10 * time.Millisecond}
	r.Ended = r.Began
	for _, who := range questions {
		r.Ended = r.Ended.Add(r.Every)
		switch who {
		case '.':
		case 'B':
			r.Answers = append(r.Answers, Voice{r.Ended, MAC{'a'}}, Voice{r.Ended.Add(time.Millisecond), MAC{'b'}})
		default:
			r.Answers = append(r.Answers, Voice{r.Ended, MAC{byte(who)}})
		}
	}
	return r
}

// A record that shows nothing wrong proves something only if it would.
func TestARecordShowsWhoeverAnswers(t *testing.T) {
	const tenth = ".........." // of a second
	const ms = time.Millisecond
	tests := []struct {
		name                     string
		questions                string
		doubles, strays, changes int
		longest                  time.Duration
		owner                    byte // 0 for none, or more than one
	}{
		{"one host", "aaaaaaaaaaaaaaaaaaaa", 0, 0, 0, 10 * ms, 'a'},
		{"nobody", "....................", 0, 0, 0, 200 * ms, 0},
		{"it is handed over", "aaaaaaaaaabbbbbbbbbb", 0, 0, 1, 10 * ms, 'b'},
		{"both answer one question when it is handed over", "aaaaaaaaaBbbbbbbbbbb", 0, 0, 1, 10 * ms, 'b'},
		{"it moves after a pause", "aaaaa.............bbbbbbbbbb", 0, 0, 1, 140 * ms, 'b'},
		{"it moves, and back", "aaaaaaaaaabbbbbbbbbbbbbbbaaaaaaaaaa", 0, 0, 2, 10 * ms, 'a'},
		{"a host goes and comes back", "aaaaa" + tenth + tenth + "aaaaa", 0, 0, 0, 210 * ms, 'a'},
		{"some answers are lost", "aaa.aaaa...aaaaaa....aaa", 0, 0, 0, 50 * ms, 'a'},
		{"both answer the same questions", "aaaaaBBBBBBBBbbbbbbb", 1, 0, 1, 10 * ms, 'b'},
		{"both answer by turns", "aaaaabababababbbbbbb", 1, 0, 1, 10 * ms, 'b'},
		{"both answer in the end", "aaaaaBBBBBBBB", 1, 0, 1, 10 * ms, 0},
		{"the old one answers once more, and late", "aaaaabbbbbbbabbbbbbb", 1, 0, 1, 10 * ms, 'b'},
		{"the old one answers with what it knew long ago", "aaaaabbbbbbbbbbbbbbbbbbbabbbbb", 0, 1, 1, 10 * ms, 'b'},
		{"a third one answers for longer", "aaaaaaBBBBBBBBaaaaaaa", 1, 1, 0, 10 * ms, 'a'},
		{"nobody in the end", "aaaaa" + tenth + tenth, 0, 0, 0, 200 * ms, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := recorded(tt.questions)
			if got := r.Doubles(50 * ms); len(got) != tt.doubles {
				t.Errorf("Doubles() = %v, want %d", got, tt.doubles)
			}
			if got := r.Strays(); len(got) != tt.strays {
				t.Errorf("Strays() = %v, want %d", got, tt.strays)
			}
			if got := r.Changes(); len(got) != tt.changes {
				t.Errorf("Changes() = %v, want %d", got, tt.changes)
			}
			if got := r.Longest(); got.Round(10*ms) != tt.longest {
				t.Errorf("Longest() = %s, want %s", got, tt.longest)
			}
			if got, err := r.Owner(); got[0] != tt.owner || (err == nil) != (tt.owner != 0) {
				t.Errorf("Owner() = %s, %v; want %q", got, err, tt.owner)
			}
		})
	}
}

func TestARecordSinceATime(t *testing.T) {
	r := recorded("aaaaaaaaaabbbbbbbbbb")
	if got := r.Since(r.Began.Add(105 * time.Millisecond)); len(got.Answers) != 10 || len(got.Changes()) != 0 {
		t.Errorf("since b answers: %d answers, %v", len(got.Answers), got.Changes())
	}
}

func TestARecordOfOneHost(t *testing.T) {
	r := recorded("aaaaaBBBBBbbbbbaaaaa")
	if got := r.Of(MAC{'a'}); len(got.Answers) != 15 || got.Longest().Round(10*time.Millisecond) != 60*time.Millisecond {
		t.Errorf("a has answered %d times, and was silent for %s", len(got.Answers), got.Longest())
	}
	if got := r.Of(MAC{'c'}); len(got.Answers) != 0 || len(r.Answers) != 25 {
		t.Errorf("c has answered %d times, all of them %d times", len(got.Answers), len(r.Answers))
	}
}

func TestVoicesAreKeptInOrderOfTime(t *testing.T) {
	var voices []Voice
	for i, ms := range []int64{1, 3, 2, 3} {
		voices = note(voices, Voice{time.UnixMilli(ms), MAC{byte(i)}})
	}
	for i, want := range []byte{0, 2, 1, 3} {
		if voices[i].MAC[0] != want {
			t.Fatalf("the voices are %v", voices)
		}
	}
}
