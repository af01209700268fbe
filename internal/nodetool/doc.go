// Package nodetool lays out what the operator's commands print, column for column as the nodetool of Cassandra 5.0.8 does, since
// scripts cut those columns. What Helenus has no figure for is printed as n/a (docs/OPERATIONS.md says what stands for what).
// Everything is pure: an answer of the admin interface in, text out.
package nodetool
