"""Domains with known truth: pictures drawn from attributes, so that an explanation can be graded."""
