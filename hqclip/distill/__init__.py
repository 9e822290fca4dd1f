"""A teacher's answers in, an LVLM that annotates as the teacher does out: collect, fine-tune, accept or not."""
