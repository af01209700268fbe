// Package formation makes one cluster of nodes that start at the same instant, lets a new node join, and refuses those
// that must not. What a node does next is a pure function (Decide) of what the seeds answered to a probe; Form drives
// it, Host answers probes and joins on the side of the members.
//
// Only the first address of the seed list may found a cluster, and only when every other seed that answers says that it
// is empty too; a seed that does not answer is waited for, at most SilentFor. All others wait for a member to join. A
// node that has been part of a cluster never founds or joins again: it goes on with what it knows.
//
// Joining: a member asks all members whether a user table holds a row, puts the node into the log as pending with the tokens
// it will own, asks all again, and commits. From the announcement until the node has joined, or is forgotten, user tables
// take no writes anywhere (meta.State.Quiet), so that the second answers stay true. Until node movement is built, a row
// anywhere means that the node is refused, and it says why.
package formation
