uniform float surface_class;
out vec4 class_out;
void main() { class_out = vec4(surface_class / 255., 0, 0, 1); }
