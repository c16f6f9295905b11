"""The same segments and calls to the Linux kernel and to our stack, and the replies field by field.

``stimuli`` makes a script of a seed; ``target`` is the program that both stacks run; ``rig`` plays many scripts to it
side by side, in steps, and notes what comes back; ``compare`` says where two accounts differ, but for the differences
that docs/differences.md explains. ``python -m tests.differential --seeds 1-200`` runs more than the test does.
"""
