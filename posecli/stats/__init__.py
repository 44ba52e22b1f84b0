"""What a data set or a pose stream holds, in numbers: counts, sizes, poses, motion, and which frames deserve labels."""
