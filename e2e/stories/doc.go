// Package stories tells, as tests, what Herald promises its users. Each story
// plays in a lab of its own: see package lab. The names of the tests are the
// promises.
package stories
